"""The router: Crossbar's configuration, the components it hosts beside the hub, and its certificate."""
