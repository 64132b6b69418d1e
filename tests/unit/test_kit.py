"""What the tests of running programs share keeps its promises, for a broken helper shows as another test's failure."""

import asyncio
import contextlib
import socket

from tests import kit


def test_who_is_just_being_accepted_is_connected_before_the_server_closes() -> None:
    made: list[asyncio.BaseTransport] = []

    class Accepted(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            made.append(transport)
            transport.close()

    async def scenario() -> None:
        server = await asyncio.get_running_loop().create_server(Accepted, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        with contextlib.ExitStack() as callers:
            for _ in range(5):
                callers.enter_context(socket.create_connection(address))
            # The loop sees the callers in its first round from here, and accepts them in the next one, after us.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            await kit.close(server)
            assert len(made) == 5

    asyncio.run(scenario())


def test_task_that_never_began_can_still_clean_up() -> None:
    cleaned: list[bool] = []

    async def guarded() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            cleaned.append(True)

    async def scenario() -> None:
        task = asyncio.create_task(guarded())
        await kit.end_tasks()
        assert (task.cancelled(), cleaned) == (True, [True])

    asyncio.run(scenario())
