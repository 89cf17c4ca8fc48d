import de.bwaldvogel.mongo.MongoServer;
import de.bwaldvogel.mongo.MongoVersion;
import java.util.List;

/** Serves MongoDB's wire protocol from one file, until SIGTERM: {@code Server HOST PORT FILE}. */
public final class Server {
    /** By itself the server poses as a release so old that today's drivers refuse it. */
    private static final MongoVersion VERSION =
            new MongoVersion() {
                @Override
                public List<Integer> getVersionArray() {
                    return List.of(6, 0, 0);
                }

                @Override
                public int getWireVersion() {
                    return 13;
                }
            };

    private Server() {}

    public static void main(String[] arguments) throws InterruptedException {
        MongoServer server = new MongoServer(new IndexedBackend(arguments[2]).version(VERSION));
        // The last writes reach the file here; a server that is killed loses them.
        Runtime.getRuntime().addShutdownHook(new Thread(server::shutdownNow));
        server.bind(arguments[0], Integer.parseInt(arguments[1]));
        Thread.currentThread().join();
    }
}
