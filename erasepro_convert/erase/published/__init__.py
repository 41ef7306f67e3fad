"""Closed forms of other papers, as functions of matrices.

Symbols are those of ``erase.closed_form``: W (m × d) is an original matrix of the cross-attention,
columns of X and Y (d × n) are features of targets and of their anchors, columns of R (d × k) those
of what is retained.
"""
