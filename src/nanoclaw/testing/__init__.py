"""Shipped for plug-in authors and our own tests: fakes, contract suites, crash points. Nothing else imports it."""
