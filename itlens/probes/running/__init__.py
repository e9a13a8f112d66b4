"""What every probe of a running model uses: teacher-forced tokens, checked hook points, logit lens, sides of a pair."""
