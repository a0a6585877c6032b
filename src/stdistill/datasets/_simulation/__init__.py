"""The parts of :func:`stdistill.datasets.simulate_xenium`, each in a folder that imports only from those before it.

``biology``
    What a tissue is made of: cell types, niches, expression.
``tissue``
    Where things lie: domains, microanatomy, cells, molecules.
``painting``
    What that looks like in H&E and in DAPI.
``writing``
    The files of a Xenium output bundle.
"""
