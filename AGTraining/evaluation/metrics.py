import numpy as np
def dice(a,b):
    n=a.sum()+b.sum()
    return float(2*(a&b).sum()/n) if n else float('nan')
