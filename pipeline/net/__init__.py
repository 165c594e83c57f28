"""Downloads: address guard, robots.txt, rate limits per host, retries, transports."""
