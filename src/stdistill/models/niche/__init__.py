"""The niche models: teacher and student."""
