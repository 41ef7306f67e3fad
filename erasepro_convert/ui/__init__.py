"""A page on this machine for those who don't type: from a file to a release, in a browser.

It is built over the public interface of the package and nothing else.
"""
