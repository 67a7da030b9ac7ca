"""Pictures and animations of what an agent sees, does and believes."""
