"""What tests ask of running workers over HTTP."""

from __future__ import annotations

from loadtest.client import Pool


async def every_worker_knows(url: str, key: str) -> bool:
    """Whether fresh connections, which the kernel spreads over the workers, are all let in with the key."""
    for _ in range(8):
        pool = Pool(url)
        answer = await pool.request("GET", "/v1/orders?drop=nothing", headers={"Authorization": f"Bearer {key}"})
        pool.close()
        if answer.status == 401:
            return False
    return True
