"""The clients of a hub for programs that know no Twisted: blocking here, and in asyncio's words in `sisock.aio`.

Both run the one Twisted consumer in a thread; what they answer turns into pandas, Arrow, NumPy or xarray.
"""
