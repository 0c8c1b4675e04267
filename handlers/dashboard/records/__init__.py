"""Transactions, players, deliveries, destinations and payments, each with its actions."""
