# SPDX-License-Identifier: Apache-2.0
"""What the system tests share: the daemon, its clients, upstream leaves, and the look at a leaf."""
