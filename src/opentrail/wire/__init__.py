"""AWS's wire protocols: who signed a request, what it asks, what the answer says."""
