"""Pairing: six digits in a direct chat make an account a user's own, once."""

from __future__ import annotations

from pathlib import Path

from nanoclaw.domain.people import Role
from tests.flow.people import audited, direct, find_text, home_with_terminal, local, person
from tests.flow.world import CHANNEL, World, open_world


async def code_for(world: World, user: str) -> str:
    return await world.store.write(lambda c: world.asked.pairing.create(c, user, world.clock.now_ms()))


async def owner_of(world: World, handle: str) -> str | None:
    found = await world.rows("SELECT user_id FROM identities WHERE channel_type = ? AND handle = ?", CHANNEL, handle)
    return found[0][0] if found else None


async def operator(world: World) -> str:
    ((user,),) = await world.rows("SELECT user_id FROM identities WHERE channel_type = 'terminal'")
    return user


async def test_the_operator_becomes_the_owner_on_a_chat_platform_and_open_questions_find_them_there(
    tmp_path: Path,
) -> None:
    async with open_world(home_with_terminal(tmp_path)) as world:
        await world.change("DELETE FROM user_roles WHERE role = 'admin'")
        user = await operator(world)
        code = await code_for(world, user)
        answer = await direct(world, "tom-dm").says(code, "tom")
        assert answer.words == "Welcome, Operator: this account is yours now." and not answer.message
        assert await owner_of(world, "tom") == user
        assert (await direct(world, "bob-dm").says("hi", "bob")).reason == "unknown_chat_asked"
        await world.quiet()
        assert len(world.channel.heard("tom-dm")) == 1 and local(world).heard == []
        assert (await direct(world, "tom-dm").presses("Connect to Andy", "tom")).taken
        assert find_text(tmp_path, code) == [], "neither the code nor the message is kept"
        assert await audited(world, "pairing.opened", "identity.linked") == ["pairing.opened", "identity.linked"]


async def test_a_code_works_once_for_ten_minutes_and_the_newest_alone(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        user = await operator(world)
        first = await code_for(world, user)
        second = await code_for(world, user)
        if first != second:
            assert (await direct(world, "a").says(first, "tom")).words.startswith("That code is not right")
        assert (await direct(world, "a").says(second, "tom")).words.startswith("Welcome")
        assert (await direct(world, "b").says(second, "eve")).words == "", "used up: it is an ordinary message"
        assert await owner_of(world, "eve") is None
        third = await code_for(world, user)
        world.clock.advance(600)
        assert (await direct(world, "b").says(third, "eve")).words == ""
        assert await owner_of(world, "eve") is None


async def test_five_wrong_tries_in_all_and_a_code_is_worth_nothing(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        code = await code_for(world, await operator(world))
        wrong = f"{(int(code) + 1) % 1_000_000:06}"
        for number in range(5):
            words = (await direct(world, f"dm{number}").says(wrong, f"eve{number}")).words
            assert words.startswith("That code is not right")
        assert (await direct(world, "dm").says(code, "tom")).words == ""
        assert await owner_of(world, "tom") is None
        assert await audited(world, "pairing.refused") == ["pairing.refused"] * 5


async def test_a_group_takes_no_code(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        code = await code_for(world, await operator(world))
        await direct(world, "g").says(code, "tom", is_group=True, is_mention=True)
        assert await owner_of(world, "tom") is None


async def test_an_account_of_somebody_with_rights_stays_theirs_and_one_without_moves(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        user = await operator(world)
        olga, bob = await person(world, "olga", Role.ADMIN, scoped=True), await person(world, "bob")
        code = await code_for(world, user)
        words = (await direct(world, "olga-dm").says(code, "olga")).words
        assert words.startswith("This account belongs to Olga already") and await owner_of(world, "olga") == olga
        assert await owner_of(world, "bob") == bob
        await direct(world, "bob-dm").says(code, "bob")
        assert await owner_of(world, "bob") == user
