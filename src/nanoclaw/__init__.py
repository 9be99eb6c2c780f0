"""NanoClaw, a personal AI assistant on your own machine. THE MAP, in reading order, one line a file.

what everything stands on
  errors.py                           Every error by whose fault it is; catch at the level that can mend it
  clock.py                            Time, passed in everywhere: the system's, or one that a test turns by hand
  ids.py                              ULIDs that never go back: their order is the order in which they were made
  log.py                              The host's log: one event a line, to stderr
  config.py                           Where everything lies and what the operator has set

the words both sides of the wall share
  contract/message.py                 What crosses the wall inside the mailbox's `content` columns, as JSON
  contract/request.py                 What an agent may ask of the host
  contract/mailbox.py                 Where a mailbox lies inside the box, and the schema of its two files

nouns and pure rules
  domain/people.py                    Who people are and what they may do
  domain/names.py                     What an agent may be called, and which folder it gets
  domain/group.py                     How an agent group's sandbox and agent are set up: one value
  domain/limits.py                    What one box may use, what a group may have instead, how sizes are written
  domain/servers.py                   What an MCP server of an assistant may look like; keys stay out of it
  domain/packages.py                  What may be asked to be installed for a group, and how two sets become one
  domain/card.py                      A question with options: buttons where a platform has them, numbers where not
  domain/wiring.py                    Which chats wake which agents, when, for whom; what a chat does with strangers
  domain/verdict.py                   What a gate answers: never a bool, so that a missing answer can never mean yes
  domain/session.py                   A session and its one live run; why a run ended
  domain/turn.py                      The life of an accepted message and of a delivery; retry rules and outcomes
  domain/approval.py                  Questions put to a person: one table, one life
  domain/egress.py                    What an agent may ask to reach, how it looks on a card, how long a yes lasts
  domain/schedule.py                  Tasks: something due at a time; a TaskRun is one firing of it

the central store
  store/migrate.py                    Brings a database to the present schema; refuses one it cannot trust
  store/db.py                         One writer thread, readers beside it, batches that share a commit
  store/sql.py                        The `.sql` file beside a module, by name of query
  store/tables.py                     Every noun of the store in one hand, made once by host.py and passed to the stages
  store/defaults.py                   What a new home begins with: the operator, the group `main`, the terminal's chat
  store/people.py                     Users, their identities and their rights
  store/groups.py                     Agent groups and their sandbox config
  store/chats.py                      Chats, their wirings, and where agents may send
  store/sessions.py                   Sessions and their one live run, with its fence
  store/approvals.py                  Questions put to people: opened once for a subject, answered once, each expires
  store/pairing.py                    Pairing codes: whoever writes one in a direct chat is that user there
  store/inbound.py                    The ledger of everything accepted, and the channels' cursors
  store/inbox.py                      What waits for agents: claims with attempt and fence
  store/outbox.py                     Deliveries, in order per session and address, until sent or given up
  store/refusals.py                   Who was refused where and why, counted; never their words
  store/proofs.py                     What sandboxes were seen to hold
  store/query.py                      What a person asks of the store's file in SQL: it can only read
  store/left_out.py                   Folders of the machine that a group was given and its boxes do not get
  store/builds.py                     Package builds: what was asked to be installed for a group, and what came of it
  store/listings.py                   What `ncl` lists, shows and finds, over every table; writes nothing
  store/audit.py                      What the host decided, chained by hash so that an edit shows

in from the chat, out to the chat
  channels/base.py                    What a channel is: it hands in what people said, and sends what agents answer
  channels/registry.py                Which channels there are: built-in ones, and those of packages somebody installed
  channels/terminal.py                The terminal channel: a unix socket in the home, for people
  channels/terminal_words.py          What a terminal client and the channel say to each other
  channels/terminal_feed.py           What the terminal reads of the store: deliveries by cursor, and outcomes
  channels/plain_text.py              Makes the text of others safe to show on a terminal

the data path, in the order of a message
  flow/receive.py                     A channel's batch, taken in one transaction; what is accepted is never lost again
  flow/route.py                       Which agents a message is for, and whether it engages them
  flow/admit.py                       Whether this sender's message may reach this agent
  flow/commands.py                    What people tell the host, or an agent's driver, by an exact first word: /stop ...
  flow/enqueue.py                     An admitted message becomes a row of the ledger and one inbox row for each agent
  flow/wake.py                        A session with waiting rows gets them into its live box, or gets a box
  flow/claim.py                       Rows of the store become rows of a mailbox
  flow/seats.py                       How many boxes run at once, and whose turn it is while all seats are taken
  flow/start.py                       A session without a live run gets one: fence, claims, mailbox, box, gateway
  flow/folders.py                     Which folders of the machine a box gets, and what is said of those it does not
  flow/proof.py                       A group's wall is tried before its first box starts, and after each change of it
  flow/compose.py                     What the host writes for a group before its box starts
  flow/skills.py                      Container skills: what a group's agent may look up how to do, copied to its place
  flow/outside.py                     What running boxes are told of the way out, kept current in files
  flow/run.py                         Keeps the live runs: starts them, hears their doorbells, ends them
  flow/live.py                        The live runs: a cache of what store and kernel know
  flow/collect.py                     What a box wrote becomes deliveries, outcomes and requests, in one commit
  flow/agents.py                      What an agent writes to another becomes a row there; the answer comes back
  flow/files.py                       What agents send each other is copied from box to host to box
  flow/aftermath.py                   What a transaction leaves to be done once it is committed; every part is a hint
  flow/groups.py                      The life of agent groups: made, introduced, put away, brought back, erased
  flow/purge.py                       Erases an archived agent group: rows in small transactions, then folders
  flow/requests.py                    What an agent asks of the host, handed to whoever can answer, by name
  flow/cards.py                       A question goes to whoever may answer it, its end to everybody who got it
  flow/approvals.py                   A question is put to people, answered once by one who may, and ends visibly
  flow/strangers.py                   Whether an unknown sender may write, and which agent an unknown chat belongs to
  flow/agent_requests.py              What an agent may not do by itself is done when a person says yes
  flow/questions.py                   What an agent asks the person it works for, with options to choose from
  flow/access.py                      What an agent would like to reach becomes a rule of the gateway after a yes
  flow/self_change.py                 What an agent would like to have in its sandbox, after a yes
  flow/egress.py                      A call the gateway holds is put to people; the gateway hears their answer
  flow/gateway_news.py                What the gateway says of held calls and new rules is taken into the store
  flow/builds.py                      Packages that a person has approved are built for a group, then swapped in
  flow/pairing.py                     Whoever writes a code in a direct chat is from then on the user it was made for
  flow/asking.py                      The one door to everything that is asked of people, and to their answers
  flow/end.py                         A run that is over is drained, settled and removed
  flow/deliver.py                     What agents said goes to their chats, in order per lane, lanes side by side
  flow/tell.py                        The host's own words to the chat in which a session works or is waited for
  flow/notify.py                      Tells channels that something of a chat changed, and whether its agent is at work
  flow/sweep.py                       Once a second, what the hints may have missed, and what no hint tells
  flow/chase.py                       What becomes of questions by time, and of cards that have found nobody
  flow/lifetime.py                    What a host does to the path before its first look and after its last message
  flow/means.py                       What every stage of a run is given
  flow/spawn.py                       How a stage starts work that outlives its call

the wall
  sandbox/spec.py                     What a box gets, as data, by one pure function
  sandbox/surroundings.py             What programs in a box find: its /etc, its environment, whom they trust
  sandbox/interpreter.py              Which Python runs inside a box
  sandbox/plan.py                     What launch.py is told to become
  sandbox/launch.py                   Exec-only launcher: private mounts, no root, limits, then bubblewrap
  sandbox/mounts.py                   Paths an agent may have written: opened without following a link, removed whole
  sandbox/allowlist.py                Which folders of this machine may be given to boxes: config/mounts.toml
  sandbox/allowlist_edit.py           Changes that file for somebody; everything else in it stays
  sandbox/pins.py                     A folder held by descriptor, and whether a held box really got that one
  sandbox/folders.py                  Whether a folder may be given to a box, and how; a group's folders for one start
  sandbox/rights.py                   Whether a box's user can read a folder, and the command that lets it
  sandbox/disk.py                     A file system of its own for a workspace of a root host: an ext4 image
  sandbox/machine.py                  How much memory this machine has, all together and free
  sandbox/memory_watch.py             The memory limit of boxes where no cgroup keeps it
  sandbox/netns.py                    Makes the listeners on a box's own loopback
  sandbox/listeners.py                The host's side of that helper: starts it, asks it
  sandbox/cgroup.py                   Memory, process and CPU limits of a box by cgroups, where the host may write them
  sandbox/inbound.py                  The host's own file of a mailbox: what the store has claimed for a run
  sandbox/mailbox.py                  The host's side of a mailbox: reads outbound.db as hostile
  sandbox/wire.py                     The only parser of bytes that a box wrote
  sandbox/allowance.py                How much a run may say before it is ended for flooding
  sandbox/watchdog.py                 The disk limit of boxes: what bubblewrap cannot bound
  sandbox/prove.py                    Tries a wall and its limits in throw-away boxes; reads what came of it as hostile
  sandbox/records.py                  What the host started, on disk, to end what outlived an earlier host
  sandbox/packages.py                 What builds a group's packages: the protocol, and what is to be built
  sandbox/packages_box.py             Packages as a folder: built and verified in boxes of its own
  sandbox/image.py                    The image that boxes have in docker: built, seen to work, then tagged
  sandbox/packages_image.py           Packages as an image of the group's own, for docker
  sandbox/set_tree.py                 A folder that a box has filled is looked through before others get it
  sandbox/runtimes/base.py            What every runtime implements
  sandbox/runtimes/registry.py        The runtimes of this host by name, and which one a group's boxes get
  sandbox/runtimes/bubblewrap.py      The embedded runtime: bubblewrap as an unprivileged uid, no daemon
  sandbox/runtimes/docker.py          Boxes as containers of Docker or Podman; gVisor and others by name
  sandbox/runtimes/docker_spec.py     What the engine is told to make for a box, as data, by one pure function
  sandbox/runtimes/docker_start.py    The steps of a container's start, each undone when a later one fails
  sandbox/runtimes/docker_box.py      A box that is a container: its streams, its end, what is cleared away
  sandbox/runtimes/engine_seccomp.py  The system calls a container may make: moby's allowlist less ours
  sandbox/runtimes/engine.py          The Engine API over its unix socket: the few calls that are needed
  sandbox/runtimes/engine_words.py    What an engine answers, as types
  sandbox/runtimes/apple.py           The command for Apple's container; the runtime says that it was never run
  sandbox/runtimes/process.py         A box that is a child process: its pipes, its end, what is cleared away
  sandbox/runtimes/seccomp.py         The system calls a box may not make, as a BPF program

inside a box that is tried
  sandbox/canaries/run.py             Each canary tries one way out and says whether it got through
  sandbox/canaries/probe.py           What a canary is made of: its question, its answer, calls of the kernel
  sandbox/canaries/files.py           The host's files, other assistants', what is mounted and how
  sandbox/canaries/network.py         Networks, names, sockets of the host
  sandbox/canaries/rights.py          Root, devices, settings, other processes and what those hold
  sandbox/canaries/kernel.py          Namespaces, mounts, tracing, and calls an agent never needs
  sandbox/canaries/limits.py          More than a box may have, of everything that is limited

inside the wall
  runner/__main__.py                  Start of the runner
  runner/start.py                     Before anything else: settings, limits, the MCP listener, the agent's process
  runner/forward.py                   Leads a box's loopback to unix sockets, where no listener can be put into it
  runner/main.py                      The runner's parts and its life: doorbell, signs of life, signals, the end
  runner/loop.py                      The turn: rows in, pushes to the provider, its results out
  runner/turn.py                      The bookkeeping of a turn: what is unanswered, which tools are open, when it hangs
  runner/mailbox.py                   The box's side of the mailbox: reads inbound.db, is the one writer of outbound.db
  runner/prompt.py                    What the agent reads: rows of the mailbox as tagged text
  runner/answer.py                    What the agent said, taken apart: text for the chat, blocks for destinations
  runner/mcp.py                       The MCP endpoint of a box, streamable HTTP on loopback
  runner/desk.py                      What the tools do: send now, hand over a file, ask the host and wait
  runner/tools.py                     The tools the agent may call, one row each
  runner/tools_self.py                The tools by which an agent asks for packages and MCP servers
  runner/ncl.py                       The command `ncl` inside a box: it asks the host through the runner
  runner/install.py                   In a build box: installs packages below /opt/pkgs, or sees that they start
  runner/install_image.py             In a container that becomes a group's image: installs as root
  runner/debs.py                      In a build box: Debian packages without root and without their scripts
  runner/packing.py                   In a build box: how programs are run, and how it says what came of them
  runner/fields.py                    Typed access to parsed JSON whose shape is not ours
  runner/providers/base.py            What the loop needs of an agent: pushes in, events out
  runner/providers/claude.py          Drives the Claude CLI over its documented stream-json interface
  runner/providers/claude_command.py  The command line and environment of the Claude CLI. Pure
  runner/providers/claude_stream.py   Reads the CLI's stream-json lines and says what they mean
  runner/providers/claude_errors.py   What an error of the model API means for the chat
  runner/providers/echo.py            An agent without a model, for tests

the only way out of a box
  gateway/main.py                     The gateway's process: vault, ledger, boxes and turns, until the host is gone
  gateway/parts.py                    Everything that process holds, wired together
  gateway/boxes.py                    Who may call at all: listeners, connections, open turns, and how often
  gateway/door.py                     Where a connection comes in: HTTP, a tunnel or TLS; TLS ends here
  gateway/ca.py                       The install's certificate authority: boxes trust it, it signs for allowed hosts
  gateway/tls.py                      TLS of a box that ends here: contexts and streams
  gateway/clerk.py                    Writes down what was refused and allowed
  gateway/line.py                     A box's side of one connection, each step bounded in time and size
  gateway/hello.py                    The server name of a TLS handshake
  gateway/proxy.py                    Every call of a box: parse, judge, write down, then forward or refuse
  gateway/target.py                   What a request asks for, taken apart; refused where it is not written plainly
  gateway/policy.py                   May this call leave the box? Pure rules
  gateway/rules.py                    The rules in force, by agent group, and every change of them
  gateway/rule_words.py               One rule, from the words a person writes; whatever could be misread is an error
  gateway/rule_file.py                A whole rule file, read whole or not at all; every fault names its line
  gateway/rule_edit.py                What a change makes of a rule file. Pure
  gateway/rule_shelf.py               The rules on disk, by generation; killed at any line, old or new are in force
  gateway/rule_sets.py                Ready-made rule sets, as data
  gateway/proposals.py                A rule that a person allowed by answering a card: what was asked for, never more
  gateway/rates.py                    How often a rule may be used
  gateway/budget.py                   What a call may cost is reserved before it is made and put right after
  gateway/spending.py                 What calls may cost, did cost and may not exceed, as values and in words
  gateway/accounts.py                 Who has spent what today and this month: sums in memory
  gateway/forecast.py                 What a call may use, read from its request
  gateway/prices.py                   What tokens cost: the operator's prices, then the table we ship
  gateway/cashier.py                  The operator's side of money: limits, prices, reports
  gateway/holds.py                    Calls that wait for a person, and one-shot grants
  gateway/ask.py                      A call that waits for a person, while its client is watched
  gateway/leaks.py                    Nothing secret goes out
  gateway/wanted.py                   What is looked for in all that passes
  gateway/forms.py                    The ways in which a secret may be written
  gateway/shapes.py                   What tokens of well-known services look like
  gateway/needles.py                  Finds any of many secrets in a stream
  gateway/exchange.py                 One allowed call: streamed out, streamed back, redacted, counted
  gateway/turns.py                    Of the busy connections of one box, one goes on in each turn of the loop
  gateway/upgrade.py                  A WebSocket that a rule allows, both ways, scanned and redacted
  gateway/frames.py                   The frames of a WebSocket, read and written anew
  gateway/upstream.py                 Connections to the outside, kept alive and reused
  gateway/addresses.py                Which addresses a call may go to: looked up once, every answer judged
  gateway/inject.py                   What is taken off an agent's headers and what is put on
  gateway/redact.py                   Secrets are blotted out of what comes back
  gateway/usage.py                    Tokens are read from an answer while it passes
  gateway/files.py                    The gateway's own small files: read whole, replaced whole
  gateway/secret.py                   A value that prints as ***
  gateway/vault_file.py               What lies in vault.json, its versions, and what each ciphertext is bound to
  gateway/oauth_grant.py              What an OAuth2 secret is made of
  gateway/presets.py                  Services whose secrets are kept by name alone: where they may go, and how
  gateway/new_secret.py               What the operator wants kept, checked before it is
  gateway/wire_form.py                How a secret's value is written into a call, and what must never come back
  gateway/protection.py               What the data key is encrypted with: a key file, or a passphrase by scrypt
  gateway/envelope.py                 AES-256-GCM around each thing in the vault's file
  gateway/vault.py                    The secrets at rest, and what of them is in use
  gateway/custody.py                  The vault in use: unlocked, changed, handed out by name, one change at a time
  gateway/oauth.py                    Access tokens: got from the service in time, by one call for all who wait
  gateway/ledger.py                   What was refused, allowed and used, chained by hash
  gateway/audit_row.py                A row of the audit and the hash that chains it
  gateway/ledger_file.py              The ledger's file: opened, brought to the present schema
  gateway/ledger_read.py              What is read of the ledger, beside its writer
  gateway/admin.py                    The operator's socket: secrets are set and listed, the audit is shown and checked
  gateway/admin_egress.py             What an operator asks of the rules: listed, tried out, changed, watched
  gateway/admin_client.py             Asks a gateway's admin socket, for the command line
  gateway/admin_words.py              What an operator asks of the gateway, and what comes back
  gateway/egress_words.py             What an operator asks of the rules, and what comes back
  gateway/vault_words.py              What host and gateway say to each other of the vault
  gateway/control.py                  What host and gateway say to each other
  gateway/rules_told.py               What the host knows of the rules: names for /etc/hosts, groups to forget
  gateway/client_vault.py             The host's side of the vault: locked or open, the passphrase, tokens of channels
  gateway/client.py                   The host's side: starts it, starts it again, tells it boxes and turns

the stand-in for a model
  rehearsal/__main__.py               Serves the rehearsal model until the parent process ends
  rehearsal/server.py                 HTTP/1.1 over an inherited listening socket
  rehearsal/api.py                    One HTTP request to the Messages API and the answer to it, as data
  rehearsal/conversation.py           What a request says: who said what since when, which tools were called
  rehearsal/sidecall.py               Calls of the CLI that are not the conversation
  rehearsal/language.py               The small language a person writes to the rehearsal model, one command a line
  rehearsal/decide.py                 What to do next, worked out from the conversation alone
  rehearsal/toolwork.py               From a command to the calls of real tools that carry it out, step by step
  rehearsal/stream.py                 Answers in the Messages API's own bytes: server-sent events, or one JSON object
  rehearsal/json_value.py             JSON values with their types

the host
  children.py                         The host's children that are not boxes, and what each may see
  keyring.py                          The operating system's keyring, by its own tool: what opens the vault of one home
  unlock.py                           Keeps the vault open: by a passphrase file or the system's keyring
  boxes.py                            What every box of this host is built from, put together
  supervise.py                        The host's one TaskGroup, its signals, its stop event and the deadline of a stop
  host.py                             The composition root: every part, built in the order of the map

for operators
  admin/server.py                     The admin socket of a host: `run/ncl.sock`, 0600, for root and the host's own user
  admin/access.py                     Who may use `ncl`: on the socket by the kernel's word, in a box by one table
  admin/verb.py                       What `ncl` can do, as data: nouns, their verbs, what each verb is given
  admin/nouns/agents.py               What `ncl` can do with assistants: groups, sessions, destinations, tasks
  admin/nouns/chats.py                What `ncl` can do with chats: messaging-groups, wirings, messages, ...
  admin/nouns/people.py               What `ncl` can do with people: users, roles, members, approvals
  admin/nouns/host.py                 What `ncl` can do with the host: host, audit
  admin/catalog.py                    Every noun of `ncl`, and where a verb is found by its words
  admin/request.py                    What is asked over the admin socket, and what comes back
  admin/call.py                       A request that was checked against the table, and who asks
  admin/table.py                      What a verb answers: rows under named columns, printed for people or as JSON
  admin/desk.py                       Every verb of `ncl` and what carries it out
  admin/find.py                       What somebody calls a thing: id, beginning of an id, or name, among what they see
  admin/resources/parts.py            What the verbs that change something are given, and how a change is written down
  admin/resources/lists.py            Every `list` and `get`
  admin/resources/groups.py           `ncl groups`: made, renamed, put away, brought back, erased, started anew
  admin/resources/group_folders.py    `ncl groups config add-mount|remove-mount`: folders of the machine for sandboxes
  admin/resources/group_runtime.py    `ncl groups config update --runtime --require`: what builds sandboxes
  admin/resources/group_sandbox.py    `ncl groups sandbox`: everything that the next box of an assistant would get
  admin/resources/group_config.py     `ncl groups config`: how an assistant is set up
  admin/resources/group_skills.py     The skills of its sandboxes: listed, given, taken
  admin/resources/group_servers.py    The MCP servers of its sandboxes: listed, added, removed
  admin/resources/group_limits.py     The limits of its sandboxes: read and shown
  admin/resources/group_packages.py   `ncl groups config add-package`, `ncl groups builds`
  admin/resources/chats.py            `ncl messaging-groups`: chats made known, changed, forgotten
  admin/resources/wirings.py          `ncl wirings`: which chat wakes which assistant, and when
  admin/resources/destinations.py     `ncl destinations`: where assistants may send
  admin/resources/people.py           `ncl users`: people and their identities on the channels
  admin/resources/rights.py           `ncl roles` and `ncl members`: who may decide, and whom an assistant knows
  admin/resources/approvals.py        `ncl approvals approve|deny`: the operator answers a question put to people
  admin/resources/audit.py            `ncl audit`: what the host decided, from the store's hash chain
  admin/resources/host.py             `ncl host`: how the host is, and asking it to stop
  admin/resources/messages.py         `ncl messages trace ID`: what became of a message
  admin/boxed.py                      `ncl` inside a box: as far as its scope reaches; a change is put to a person
  admin/words.py                      What an agent types after `ncl` in its box, and the help it gets
  admin/offline.py                    The same answers while no host runs: the store's file is read directly, read-only
  admin/client.py                     Asks a host over its admin socket; blocking, for commands
  admin/cli.py                        The entry of `ncl`: click commands made from the table of verbs
  admin/isolation.py                  The question behind every wiring: may anything of one chat come up in another?
  admin/completion.py                 Completion of commands, options, ids and names in bash, zsh and fish
  admin/ask.py                        Asks the host, or the store's file when no host runs; prints what comes back
  admin/command_line.py               Runs a command of ours: exit codes, and errors in plain words on stderr

the command line
  cli/main.py                         The entry of `nanoclaw`
  cli/verbs.py                        The verbs of `nanoclaw`, each imported when it is asked for
  cli/audit.py                        `nanoclaw audit`: host and gateway decisions in one list by time
  cli/audit_chain.py                  The two hash chains of the audit: heads, pages, export
  cli/cost.py                         `nanoclaw cost`: what was spent, limits, prices of one's own
  cli/since.py                        How far back a command looks: 7d, today, a date
  cli/chat.py                         `nanoclaw chat [TEXT]`: one question, or a conversation
  cli/claw.py                         `claw`: an agent from the shell, with no chat app
  cli/completion.py                   `nanoclaw completion SHELL`: completion of the verbs and their options
  cli/conversation.py                 A conversation that lasts over a lost host
  cli/doctor.py                       `nanoclaw doctor`: what this needs, and what mends what is missing
  cli/egress.py                       `nanoclaw egress`: what agents may reach, who is asked, which rule decides
  cli/egress_watch.py                 `nanoclaw egress watch`: what the gateway decides, as it decides it
  cli/finding.py                      What one check of `nanoclaw doctor` found
  cli/gateway_link.py                 Asks the gateway, of the running host or started for one command
  cli/host_process.py                 Whether a host runs, starting one, waiting until it answers
  cli/image.py                        `nanoclaw image build|list|remove`: what assistants find around them in docker
  cli/link.py                         One connection to the host's terminal
  cli/logs.py                         `nanoclaw logs`: the host's log
  cli/mounts.py                       `nanoclaw mounts`: which folders of this machine sandboxes may be given
  cli/names.py                        What people call the agents, people and tasks that the gateway keeps by id
  cli/prove.py                        `nanoclaw doctor --prove`: the wall of this machine's sandboxes is tried
  cli/query.py                        `nanoclaw query 'SELECT ...'`: reads the store's file
  cli/question.py                     `nanoclaw chat TEXT`: one message, its answers, an exit code
  cli/runtimes.py                     doctor: what can build sandboxes here, and which is best for what
  cli/setup.py                        `nanoclaw setup`: name, time zone, model key, a self-test message
  cli/status.py                       `nanoclaw status`: what runs, and what waits
  cli/stop.py                         `nanoclaw stop`: ask the host to finish, and wait until it has
  cli/talk.py                         `nanoclaw chat`: a prompt with history and rendered Markdown, or plain lines
  cli/trace.py                        `nanoclaw trace MESSAGE`: what became of a message
  cli/up.py                           `nanoclaw up`: the host, in this process or detached
  cli/vault.py                        `nanoclaw vault`: secrets that only the gateway can read
  cli/vault_lock.py                   The vault's lock on the command line: its passphrase, and what it lies under
  cli/vault_import.py                 `nanoclaw vault import --env FILE`: known keys of a .env file go into the vault

for tests and plug-in authors
  testing/contracts/channels.py       What every channel must do
  testing/contracts/proof.py          How a contract is checked: a sentence that must hold, now or before a deadline
  testing/contracts/providers.py      What every agent's driver must do; a bench says how its agent is made to behave
  testing/contracts/runtimes.py       What every sandbox runtime must do
  testing/crashpoints.py              The named places where a test may kill the host
  testing/fakes.py                    A clock turned by hand, a chat platform, the host's side of a gateway
  testing/scripted_box.py             A box that runs in this process and does what a script says
  testing/scripted_runtime.py         Builds scripted boxes
  testing/scripted_provider.py        An agent that can be given one message at a time, and notes when it was given two
"""
