"""Generated sequences of beanstalk commands, sent to two servers whose answers must agree."""
