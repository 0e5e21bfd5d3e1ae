"""The wire on Twisted and Autobahn."""
