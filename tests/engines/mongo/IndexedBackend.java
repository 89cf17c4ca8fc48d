import de.bwaldvogel.mongo.MongoCollection;
import de.bwaldvogel.mongo.MongoDatabase;
import de.bwaldvogel.mongo.backend.AbstractUniqueIndex;
import de.bwaldvogel.mongo.backend.CollectionOptions;
import de.bwaldvogel.mongo.backend.CursorRegistry;
import de.bwaldvogel.mongo.backend.Index;
import de.bwaldvogel.mongo.backend.IndexKey;
import de.bwaldvogel.mongo.backend.KeyValue;
import de.bwaldvogel.mongo.backend.QueryResult;
import de.bwaldvogel.mongo.backend.h2.H2Backend;
import de.bwaldvogel.mongo.backend.h2.H2Collection;
import de.bwaldvogel.mongo.backend.h2.H2Database;
import de.bwaldvogel.mongo.bson.Document;
import java.util.Collection;
import java.util.HashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.h2.mvstore.MVMap;
import org.h2.mvstore.MVStore;

/**
 * Documents in one file that are found by their indexes, as in MongoDB.
 *
 * <p>The library reads every document of a collection unless a query names exactly the fields of a
 * unique index, and makes no other indexes at all. Here a query that asks for one {@code _id}, or
 * for one value of the first field of any index, looks only at the documents that have it. Indexes
 * are in memory, and filled from the documents when a collection is opened.
 */
final class IndexedBackend extends H2Backend {
    /** Beyond this much, pages are read from the file and deserialized, document by document. */
    private static final int CACHE_MEGABYTES = 512;

    /** A change is written with the whole page that it is on, so the fewer times the better. */
    private static final int UNSAVED_KILOBYTES = 512 * 1024;

    /** As long as MongoDB itself takes from one checkpoint to the next. */
    private static final int UNSAVED_MILLISECONDS = 60_000;

    IndexedBackend(String file) {
        super(
                new MVStore.Builder()
                        .fileName(file)
                        .cacheSize(CACHE_MEGABYTES)
                        .autoCommitBufferSize(UNSAVED_KILOBYTES)
                        .open());
        getMvStore().setAutoCommitDelay(UNSAVED_MILLISECONDS);
    }

    @Override
    protected MongoDatabase openOrCreateDatabase(String name) {
        return new Database(name);
    }

    /** Not static: collections are opened before its own fields could be set. */
    private final class Database extends H2Database {
        Database(String name) {
            super(name, getMvStore(), getCursorRegistry());
        }

        @Override
        protected Index<Object> openOrCreateUniqueIndex(
                String collection, String name, List<IndexKey> fields, boolean sparse) {
            return new UniqueIndex(name, fields, sparse);
        }

        @Override
        protected MongoCollection<Object> openOrCreateCollection(
                String name, CollectionOptions options) {
            MVStore store = getMvStore();
            String place = getFullCollectionNamespace(name);
            return new Documents(
                    this,
                    name,
                    options,
                    store.openMap("databases." + place),
                    store.openMap("meta." + place),
                    cursorRegistry);
        }
    }

    /** The library keeps these in the file and serializes both sides of every comparison. */
    private static final class UniqueIndex extends AbstractUniqueIndex<Object> {
        private final Map<KeyValue, Object> keys = new HashMap<>();

        UniqueIndex(String name, List<IndexKey> fields, boolean sparse) {
            super(name, fields, sparse);
        }

        @Override
        protected Object getPosition(KeyValue values) {
            return keys.get(values);
        }

        @Override
        protected boolean putKeyPosition(KeyValue values, Object key) {
            return keys.putIfAbsent(values, key) == null;
        }

        @Override
        protected Object removeDocument(KeyValue values) {
            return keys.remove(values);
        }

        @Override
        protected Iterable<Map.Entry<KeyValue, Object>> getIterable() {
            return keys.entrySet();
        }

        @Override
        public long getCount() {
            return keys.size();
        }

        @Override
        public long getDataSize() {
            return 0;
        }
    }

    private static final class Documents extends H2Collection {
        private static final String ID = "_id";

        /** First field of an index, its value, and the keys of the documents that have it. */
        private final Map<String, Map<String, Set<Object>>> lookups = new HashMap<>();

        Documents(
                MongoDatabase database,
                String name,
                CollectionOptions options,
                MVMap<Object, Document> documents,
                MVMap<String, Object> meta,
                CursorRegistry cursors) {
            super(database, name, options, documents, meta, cursors);
        }

        @Override
        public void addIndex(Index<Object> index) {
            super.addIndex(index);
            String field = index.getKeys().get(0).getKey();
            if (field.equals(ID) || field.contains(".") || lookups.containsKey(field)) {
                return;
            }
            lookups.put(field, new HashMap<>());
            streamAllDocumentsWithPosition()
                    .forEach(found -> enter(field, found.getDocument(), found.getPosition()));
        }

        /** The one question that the library asks without its lock. */
        @Override
        public synchronized int count(Document query, int skip, int limit) {
            return super.count(query, skip, limit);
        }

        @Override
        protected QueryResult queryDocuments(
                Document query, Document order, int skip, int limit, int batch, Document fields) {
            Collection<Object> candidates = candidates(query);
            return candidates == null
                    ? super.queryDocuments(query, order, skip, limit, batch, fields)
                    : matchDocuments(query, candidates, order, skip, limit, batch, fields);
        }

        /** Returns the keys of all documents that may match, or null where nothing narrows them. */
        private Collection<Object> candidates(Document query) {
            if (query.get(ID) instanceof String key) {
                return getDocument(key) == null ? List.of() : List.of(key);
            }
            Collection<Object> fewest = null;
            for (Map.Entry<String, Map<String, Set<Object>>> lookup : lookups.entrySet()) {
                if (query.get(lookup.getKey()) instanceof String value) {
                    Set<Object> keys = lookup.getValue().getOrDefault(value, Set.of());
                    fewest = fewest == null || keys.size() < fewest.size() ? keys : fewest;
                }
            }
            return fewest == null ? null : List.copyOf(fewest);
        }

        @Override
        protected Object addDocumentInternal(Document document) {
            Object key = super.addDocumentInternal(document);
            lookups.keySet().forEach(field -> enter(field, document, key));
            return key;
        }

        @Override
        protected void handleUpdate(Object key, Document before, Document after) {
            super.handleUpdate(key, before, after);
            for (String field : lookups.keySet()) {
                remove(field, before, key);
                enter(field, after, key);
            }
        }

        @Override
        protected void removeDocument(Object key) {
            Document before = getDocument(key);
            super.removeDocument(key);
            lookups.keySet().forEach(field -> remove(field, before, key));
        }

        private void enter(String field, Document document, Object key) {
            for (String value : values(document.get(field))) {
                lookups.get(field).computeIfAbsent(value, any -> new LinkedHashSet<>()).add(key);
            }
        }

        private void remove(String field, Document document, Object key) {
            for (String value : values(document.get(field))) {
                lookups.get(field).computeIfPresent(
                        value, (any, keys) -> keys.remove(key) && keys.isEmpty() ? null : keys);
            }
        }

        /** Returns the texts that a query for this field finds a document by: a list has several. */
        private static Set<String> values(Object content) {
            Set<String> texts = new LinkedHashSet<>();
            if (content instanceof Collection<?> list) {
                list.forEach(each -> texts.addAll(each instanceof String text ? Set.of(text) : Set.of()));
            } else if (content instanceof String text) {
                texts.add(text);
            }
            return texts;
        }
    }
}
