"""The plugins of the products that come with the marketplace."""
