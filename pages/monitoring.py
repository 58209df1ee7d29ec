"""Monitoring: which writers collide, whether they had to, and how fast the store is."""

from dashboard import component

component.monitoring()
