"""What every runtime, provider and channel must do; one suite each, run over the real thing and over our fakes.

For a channel of your own: write a bench (the protocol at the top of channels.py), then

    from nanoclaw.testing.contracts.channels import BEHAVIOURS, Behaviour

    @pytest.mark.parametrize("behaviour", BEHAVIOURS)
    async def test_my_channel_keeps_the_contract(behaviour: Behaviour) -> None:
        await behaviour(MyBench())

A behaviour is an async function named like a sentence; it raises AssertionError, in words, when the contract is
broken. Each wants a bench of its own. Runtimes and providers go the same way. No test framework is needed.
"""
