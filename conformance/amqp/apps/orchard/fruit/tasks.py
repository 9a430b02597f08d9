"""The tutorial's tasks."""

from celery import shared_task


@shared_task
def add(x, y):
    """Return the sum."""
    return x + y


@shared_task
def fall(word):
    """Always fails."""
    raise RuntimeError(word)
