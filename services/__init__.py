"""The services and what they share; imports point one way: to gallery and runtime."""
