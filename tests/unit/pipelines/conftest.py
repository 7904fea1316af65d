"""Fixtures of every test here."""

from tests.support.kubeflow import stack_without_source

__all__ = ["stack_without_source"]
