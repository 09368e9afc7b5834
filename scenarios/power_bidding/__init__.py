"""What a person does with `power_bidding`."""
