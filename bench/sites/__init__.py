"""What site streams cost: the fan-out beside Crossbar's own, latency, and subscribers who are idle."""
