"""`erase mcp`, started by the client of the package mcp."""

import asyncio

from mcp import Client, StdioServerParameters


async def main():
    async with Client(StdioServerParameters(command="erase", args=["mcp"])) as client:
        result = await client.call_tool("demonstrations", {"query": "where is my parcel?"})
        print(result.structured_content["demonstrations"], flush=True)


asyncio.run(main())
