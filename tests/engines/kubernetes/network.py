"""Where everything of the cluster is, seen from the node and from its pods alike."""

BRIDGE = "i8s0"
"""The network device that pods hang on. Its address is the node's: it is there before the first
pod, and the cluster does not notice when this machine changes networks, or has none."""

ADDRESS = "10.244.0.1"
POD_NETWORK = "10.244.0.0/16"
SERVICE_NETWORK = "10.96.0.0/16"
API_SERVICE = "10.96.0.1"
"""The first of the service network; Kubernetes gives it to its own API."""

NODE = "node1"
DOMAIN = "cluster.local"
API_SERVER = f"https://{ADDRESS}:6443"
