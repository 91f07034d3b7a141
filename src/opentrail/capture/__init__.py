"""From one call on the wire to one CloudTrail record."""
