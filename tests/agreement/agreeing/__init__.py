"""What must agree with what: functions, damages, exemptions, and how a run is judged."""
