"""What every room uses: errors, settings, references, processes, memory, files, HTTP."""
