"""vLLM servers of one machine: which command starts them, who watches them, who makes sure that none is left over."""
