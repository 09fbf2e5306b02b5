"""What admins and the console ask about an instance: health, routes, images, features that are not here."""
