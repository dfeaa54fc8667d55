"""Spreads a detection over worker processes on one machine or many, with Ray.

Workers are plain Ray actors that the driver feeds with paths; the run folder, on a file system that all machines see,
is the only place where anything is kept. Ray Data is not used: it gives the images of a worker that died to any other
one, which would pay again for the replies that the dead one had got; here a new worker takes over the part it left.

    with cluster(SpreadOptions(workers=4), setup) as workers:
        async with open_spread(setup, run, workers) as session:
            await session.detect(images, print)
"""
