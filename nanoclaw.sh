#!/usr/bin/env bash
# ./nanoclaw.sh              set up what is missing, start the host if none runs, open the chat
# ./nanoclaw.sh chat "text"  one question; the reply on stdout, nothing else on stdout
# ./nanoclaw.sh test [args]  every test (pytest arguments)
# ./nanoclaw.sh check        format, lint, types, house tests: what CI runs
# ./nanoclaw.sh VERB ...     the `nanoclaw` command of that name
# ./nanoclaw.sh ncl ...      `ncl`: what the host holds, as tables
#
# Needs bash and Python >= 3.11. Set-up goes into .venv beside this file from the hashed pins in requirements/ and may be
# interrupted and run again at any point: .venv/made says that the environment itself is whole, .venv/building that packages
# are being changed (found at a start: somebody pulled the plug, begin afresh), .venv/stamp what is installed.
set -uo pipefail

[[ -n ${HOME-} ]] || unset HOME # an empty HOME would put our home into /

self=${BASH_SOURCE[0]}
while [[ -L $self ]]; do
    link=$(readlink -- "$self")
    [[ $link == /* ]] || link=${self%/*}/$link
    [[ $link == */* ]] || link=./$link
    self=$link
done
[[ $self == */* ]] || self=./$self
root=$(cd -P -- "${self%/*}" && pwd -P) || exit 2
venv=$root/.venv
python=$venv/bin/python
readonly self root venv python
ticker=""

say() { printf 'nanoclaw: %s\n' "$*" >&2; }

give_up() { # what happened, then what mends it, one line each
    printf 'nanoclaw: %s\n' "$@" >&2
    exit 2
}

stop_ticker() {
    [[ -z $ticker ]] || kill "$ticker" 2>/dev/null
    ticker=""
}
trap stop_ticker EXIT

# Run a command quietly, a dot a second on a terminal; its output is in $output when it fails.
output=""
quietly() {
    printf 'nanoclaw: %s ...' "$1" >&2
    shift
    if [[ -t 2 ]]; then
        (while sleep 1; do printf '.' >&2; done) </dev/null >/dev/null &
        ticker=$!
    fi
    local result=0
    output=$("$@" 2>&1 </dev/null) || result=$?
    stop_ticker
    if ((result == 0)); then printf ' done\n' >&2; else printf ' failed\n' >&2; fi
    return "$result"
}

explain() { # $1: what was being done. Ends the script with the reason that $output shows.
    # pip fetches everything before it changes anything: what failed at fetching has left .venv whole
    case $output in
        *"No space left on device"* | *"Disk quota exceeded"*)
            give_up "$1 failed: the disk of $root is full." "Free about 1 GB there, then run this again." ;;
        *"name resolution"* | *"Name or service not known"* | *"unreachable"* | *"Connection refused"* | *"Max retries"* | \
            *"establish a new connection"* | *"dns error"* | *"error sending request"* | *"timed out"*)
            rm -f -- "$venv/building"
            give_up "$1 failed: the package index could not be reached. This machine seems to be offline." \
                "Connect it (or set your pip index or proxy), then run this again; what is done is kept." ;;
        *"No matching distribution"* | *"Could not find a version"* | *"DO NOT MATCH THE HASHES"* | *"No solution found"*)
            rm -f -- "$venv/building"
            printf '%s\n' "$output" | tail -n 5 >&2
            give_up "$1 failed: your package index does not have the pinned version." "Use an index that has it, then run this again." ;;
        *"Read-only file system"* | *"Permission denied"*)
            printf '%s\n' "${output##*$'\n'}" >&2
            give_up "$1 failed: cannot write below $root." "Make it writable for you, or clone to another folder." ;;
    esac
    printf '%s\n' "$output" | tail -n 15 >&2
    give_up "$1 failed, for the reason above." "Mend that, then run this again."
}

# --- the system's packages ------------------------------------------------------------------------------------------

install_command() { # the command that installs package $1, for people and (split at blanks) for us
    if command -v apt-get >/dev/null; then echo "apt-get install -y --no-install-recommends $1"
    elif command -v dnf >/dev/null; then echo "dnf install -y $1"
    elif command -v pacman >/dev/null; then echo "pacman -S --noconfirm --needed $1"
    elif command -v apk >/dev/null; then echo "apk add $1"
    elif command -v zypper >/dev/null; then echo "zypper --non-interactive install $1"
    fi
}

install_package() { # $1 package, $2 why. Installs it where we may, else prints the command and ends with 2
    local command as_root=()
    command=$(install_command "$1")
    [[ -n $command ]] || give_up "$2: the package '$1' is missing." "Install it with this system's package manager, then run this again."
    if ((EUID != 0)); then
        { command -v sudo && sudo -n true; } >/dev/null 2>&1 ||
            give_up "$2: the package '$1' is missing. Install it, then run this again:" "  sudo $command"
        as_root=(sudo -n)
    fi
    local -a words
    read -ra words <<<"$command"
    quietly "installing $1" env DEBIAN_FRONTEND=noninteractive ${as_root[@]+"${as_root[@]}"} "${words[@]}" && return
    if [[ ${words[0]} == apt-get ]]; then # a machine fresh from an image has no package lists
        quietly "fetching the package lists" ${as_root[@]+"${as_root[@]}"} apt-get update || true
        quietly "installing $1" env DEBIAN_FRONTEND=noninteractive ${as_root[@]+"${as_root[@]}"} "${words[@]}" && return
    fi
    printf '%s\n' "$output" | tail -n 5 >&2
    give_up "$2: the package '$1' could not be installed. Do it by hand, then run this again:" "  sudo $command"
}

need_bubblewrap() { command -v bwrap >/dev/null || install_package bubblewrap "the sandbox needs bubblewrap"; }

# --- Python and .venv -----------------------------------------------------------------------------------------------

find_python() { # sets $found to a Python >= 3.11 and $version to its "3.x"
    local name old=""
    for name in python3 python3.14 python3.13 python3.12 python3.11 python; do
        command -v "$name" >/dev/null || continue
        version=$("$name" -I -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
        if [[ $version =~ ^3\.([0-9]+)$ ]] && ((BASH_REMATCH[1] >= 11)); then
            found=$(command -v "$name")
            return
        fi
        old=$version
    done
    local hint="install Python 3.11 or newer, from your system or from python.org"
    command -v apt-get >/dev/null && hint="sudo apt-get install python3 python3-venv    (Debian 12, Ubuntu 24.04 or newer)"
    command -v dnf >/dev/null && hint="sudo dnf install python3.11"
    command -v pacman >/dev/null && hint="sudo pacman -S python"
    command -v apk >/dev/null && hint="sudo apk add python3"
    command -v zypper >/dev/null && hint="sudo zypper install python311"
    [[ -z $old ]] || give_up "Python $old is too old; 3.11 or newer is needed." "  $hint"
    give_up "no Python found; 3.11 or newer is needed." "  $hint"
}

signature() { # what .venv is made for and from; two small processes, about 3 ms
    printf '%s\n' "$root"
    readlink -f -- "$python"
    (cd -- "$root" && exec cksum requirements/base.txt requirements/agent.txt pyproject.toml)
}

packages() { # what to say, then pip arguments; uv when there is one, pip when uv fails or is not there
    local what=$1
    shift
    if command -v uv >/dev/null; then
        quietly "$what (uv)" uv pip install --quiet --python "$python" "$@" && return
        [[ $output != *"No space left"* ]] || explain "$what"
        "$python" -m ensurepip >/dev/null 2>&1 || explain "$what"
    fi
    quietly "$what" "$python" -I -m pip install --quiet --no-input --retries 2 --disable-pip-version-check "$@" || explain "$what"
}

make_venv() {
    find_python
    if command -v uv >/dev/null; then
        quietly "making .venv with Python $version (uv)" uv venv --quiet --python "$found" "$venv" || explain "making .venv"
    else
        "$found" -I -c 'import venv, ensurepip' 2>/dev/null || install_package "python$version-venv" "Python $version has no venv module"
        quietly "making .venv with Python $version" "$found" -I -m venv "$venv" || explain "making .venv"
    fi
}

whole_venv() { # whether the .venv that is there may be built upon; a moved one may not: its scripts name the old place
    [[ -r $venv/made && ! -e $venv/building && $(<"$venv/made") == "$root" ]] &&
        "$python" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

cannot_write() { # a clone that we may not write in, or a full disk
    [[ -w $root ]] || give_up "cannot write in $root." "Make it writable for you, or clone to another folder."
    give_up "cannot write in $venv: the disk may be full." "Free about 1 GB there, then run this again."
}

begin_change() { { : >"$venv/building"; } 2>/dev/null || cannot_write; }

end_change() { # $1: the stamp to write, $2: its text
    { printf '%s\n' "$2" >"$1" && rm -f -- "$venv/building"; } 2>/dev/null || cannot_write
}

lock() { # one set-up at a time; a second one waits, then finds everything done
    exec 9<"$root"
    command -v flock >/dev/null || return 0
    flock -n 9 && return
    say "another set-up runs in this folder; waiting for it"
    flock 9
}

unlock() { exec 9<&-; }

set_up() {
    lock
    if ! up_to_date; then
        say "setting up in $venv"
        if ! whole_venv; then
            { rm -f -- "$venv/made" && rm -rf -- "$venv" && mkdir -- "$venv"; } 2>/dev/null || cannot_write
            make_venv
            end_change "$venv/made" "$root"
        fi
        begin_change
        packages "installing the Python packages" --require-hashes -r "$root/requirements/base.txt"
        packages "installing the agent (Claude Code, about 100 MB)" --no-deps --require-hashes -r "$root/requirements/agent.txt"
        packages "installing nanoclaw itself" --no-deps --no-build-isolation -e "$root"
        end_change "$venv/stamp" "$(signature)"
    fi
    unlock
}

up_to_date() {
    [[ -r $venv/stamp && -x $python && ! -e $venv/building ]] && [[ $(<"$venv/stamp") == "$(signature)" ]]
}

need_dev() { # what tests and checks need, installed at the first of them
    local want
    want=$(cksum <"$root/requirements/dev.txt")
    [[ -r $venv/stamp-dev && $(<"$venv/stamp-dev") == "$want" ]] && return
    lock
    begin_change
    packages "installing what the tests need" --require-hashes -r "$root/requirements/dev.txt"
    end_change "$venv/stamp-dev" "$want"
    unlock
}

# --- what to do -----------------------------------------------------------------------------------------------------

nanoclaw() {
    stop_ticker
    exec "$python" -I "$venv/bin/nanoclaw" "$@"
}

ncl() {
    stop_ticker
    exec "$python" -I "$venv/bin/ncl" "$@"
}

check() { # all of them, whatever the first one says; 1 when any failed
    local failed=0
    cd -- "$root" || exit 2
    say "ruff format"
    "$python" -m ruff format --check . || failed=1
    say "ruff check"
    "$python" -m ruff check . || failed=1
    say "basedpyright"
    "$python" -m basedpyright || failed=1
    say "house tests"
    "$python" -m pytest tests/house || failed=1
    exit "$failed"
}

up_to_date || set_up
case ${1-} in
    "") need_bubblewrap && nanoclaw chat ;;
    test)
        need_bubblewrap
        need_dev
        cd -- "$root" && exec "$python" -m pytest "${@:2}" ;;
    check)
        need_dev
        check ;;
    ncl) ncl "${@:2}" ;;
    chat | up | setup) need_bubblewrap && nanoclaw "$@" ;;
    *) nanoclaw "$@" ;;
esac
