"""Tests of money: prices, budgets, the journal and the ledger."""
