"""STATE: tables, one module of query functions per noun, and the two engines that run them."""
