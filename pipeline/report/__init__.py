"""What stage report needs: which records it shows, its figures, its templates."""
