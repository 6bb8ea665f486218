"""A whole site on one machine: the router, the nodes and the bridge as processes under one supervisor."""
