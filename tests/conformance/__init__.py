"""Every operation of every service, by the models' own word; and moto's own test suites."""
