"""What every database adapter keeps to, each tried on its real database.

A test is written once, in the module of its subject matter (``values.py``, ``streaming.py`` …), and
runs for every adapter. An adapter is one small module ``test_<name>.py`` here:

1. a subclass of :class:`~.subject.Subject` that makes the adapter on a real database (one shared
   server per test process, see ``tests/support``) and says how its SQL is written where the
   database differs: every attribute of ``Subject`` has a default in plain SQL;
2. ``globals().update(contract(Mysql))``, of :mod:`.cases`: a ``TestCase`` of every group of tests.

What a database has not (RETURNING, procedures, a server on which statements can be seen) is None in
its subject, and the test for it passes without a look. A test that can't hold for a database for
another reason is named in ``Subject.exempt`` with that reason.
"""
