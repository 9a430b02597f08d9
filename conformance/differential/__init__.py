"""Generated sequences of AMQP methods, sent to two servers whose answers must agree."""
