"""The prism together with its gratings: one redshift, one line catalogue (docs/design.md, "Gratings")."""
