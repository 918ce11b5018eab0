"""`python -m marft`, the form that `accelerate launch -m marft` needs."""

from marft.cli import main

if __name__ == "__main__":
    main()
