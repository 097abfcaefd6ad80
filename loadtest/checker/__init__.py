"""The history checker: proves from what shoppers saw and what the stores hold in the end that every promise was kept.

model   operations paired from events, gathered by reservation, and what is known of each reservation's times
state   what the stores hold in the end
bounds  sound interval bounds, for histories of any size
exact   exhaustive search for an order of the operations that explains every answer, for small ones
sets    what must hold of each reservation and order
ledger  what must hold of the stores' sums, of the journal, and between them
verdict all of it together
stores  reads the final state from a real installation
"""
