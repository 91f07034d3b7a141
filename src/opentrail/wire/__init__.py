"""AWS's wire protocols: the signer of a request, its operation and parameters, and the answer."""
