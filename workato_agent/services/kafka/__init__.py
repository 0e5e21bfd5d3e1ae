"""Kafka clusters: topics, writing, and reading in consumer groups.

librdkafka does the work, by confluent-kafka, in threads of the profile. The alternative, aiokafka,
wants an asyncio loop, which this agent's reactor is not, and does the protocol, its checksums and
its compression in Python, where they would hold up every other call of the agent; here they are
done in C, outside the interpreter's lock.
"""
