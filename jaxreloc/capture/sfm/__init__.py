"""Structure from motion by COLMAP, from pictures to poses without a scale."""
