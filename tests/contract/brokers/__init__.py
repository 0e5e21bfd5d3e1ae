"""What every way of speaking to a message broker keeps to, each tried on a real broker.

A broker is one small module ``test_<name>.py`` here: a subclass of
:class:`~.contract.BrokerContract` that makes the broker's client
(:meth:`~.case.BrokerCase.make_broker`) for a real server (one shared by a test process, see
``tests/support``) and says by class attributes what this broker has not. A test of what it has not
shows that it says so.
"""
