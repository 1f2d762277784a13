// What programs do with the JavaScript client, against the cluster that KUBECONFIG names.
//
// Run by `clients.rs`; each step fails by throwing. The pod `web` in `default` runs a shell.

import assert from 'node:assert/strict';
import { PassThrough, Readable } from 'node:stream';
import { createRequire } from 'node:module';

// The packages are where the test installed them, not beside this file.
const require = createRequire(process.env.CLIENT_MODULES + '/');
const k8s = require('@kubernetes/client-node');

const namespace = 'javascript';
const config = new k8s.KubeConfig();
config.loadFromDefault();
const core = config.makeApiClient(k8s.CoreV1Api);

/** A promise with its two ends, and a limit on how long it may take. */
function later(what) {
    const result = {};
    result.promise = new Promise((resolve, reject) => {
        const timer = setTimeout(() => reject(new Error(`in vain: ${what}`)), 120_000);
        result.resolve = (value) => (clearTimeout(timer), resolve(value));
        result.reject = (error) => (clearTimeout(timer), reject(error));
    });
    return result;
}

const map = (name, data) => ({ metadata: { name, labels: { app: 'javascript' } }, data });

async function createsAndLists() {
    await core.createNamespace({ body: { metadata: { name: namespace } } });
    for (const name of ['a', 'b', 'c']) {
        await core.createNamespacedConfigMap({ namespace, body: map(name, { name }) });
    }
    const list = await core.listNamespacedConfigMap({ namespace, labelSelector: 'app=javascript' });
    assert.deepEqual(list.items.map((item) => item.data.name), ['a', 'b', 'c']);
    await assert.rejects(core.readNamespacedConfigMap({ namespace, name: 'no' }), (error) => error.code === 404);
    await assert.rejects(
        core.createNamespacedConfigMap({ namespace, body: map('BAD', {}) }),
        (error) => error.code === 422 && error.body.includes('lowercase RFC 1123 subdomain'),
    );
}

async function watches() {
    const seen = [];
    const done = later('the end of a watch');
    const watch = new k8s.Watch(config);
    const from = await core.listNamespacedConfigMap({ namespace });
    const request = await watch.watch(
        `/api/v1/namespaces/${namespace}/configmaps`,
        { resourceVersion: from.metadata.resourceVersion, allowWatchBookmarks: true },
        (type, object) => {
            seen.push(`${type} ${object.metadata.name}`);
            if (type === 'DELETED') done.resolve();
        },
        (error) => error && error.name !== 'AbortError' && done.reject(error),
    );
    await core.createNamespacedConfigMap({ namespace, body: map('watched', { a: '1' }) });
    await core.patchNamespacedConfigMap(
        { namespace, name: 'watched', body: { data: { a: '2' } } },
        k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.MergePatch),
    );
    await core.deleteNamespacedConfigMap({ namespace, name: 'watched' });
    await done.promise;
    request.abort();
    assert.deepEqual(seen, ['ADDED watched', 'MODIFIED watched', 'DELETED watched']);
}

async function patches() {
    const name = 'patched';
    await core.createNamespacedConfigMap({ namespace, body: map(name, { a: '1', b: '2' }) });
    const applied = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name }, data: { e: 'apply' } };
    for (const [strategy, body, more] of [
        [k8s.PatchStrategy.JsonPatch, [{ op: 'replace', path: '/data/a', value: 'json' }], {}],
        [k8s.PatchStrategy.MergePatch, { data: { b: null, c: 'merge' } }, {}],
        [k8s.PatchStrategy.StrategicMergePatch, { data: { d: 'strategic' } }, {}],
        [k8s.PatchStrategy.ServerSideApply, applied, { fieldManager: 'javascript', force: true }],
    ]) {
        const options = k8s.setHeaderOptions('Content-Type', strategy);
        await core.patchNamespacedConfigMap({ namespace, name, body, ...more }, options);
    }
    const found = await core.readNamespacedConfigMap({ namespace, name });
    assert.deepEqual(found.data, { a: 'json', c: 'merge', d: 'strategic', e: 'apply' });
    found.data = { a: 'update' };
    await core.replaceNamespacedConfigMap({ namespace, name, body: found });
    await assert.rejects(
        core.replaceNamespacedConfigMap({ namespace, name, body: found }),
        (error) => error.code === 409,
    );
}

async function informerFollows() {
    const path = `/api/v1/namespaces/${namespace}/configmaps`;
    const list = () => core.listNamespacedConfigMap({ namespace });
    const informer = k8s.makeInformer(config, path, list);
    const [added, changed, gone] = ['an added', 'a changed', 'a deleted'].map((what) => later(`${what} object`));
    const is = (object) => object.metadata.name === 'informed';
    informer.on('add', (object) => is(object) && added.resolve());
    informer.on('update', (object) => is(object) && object.data.a === '2' && changed.resolve());
    informer.on('delete', (object) => is(object) && gone.resolve());
    informer.on('error', (error) => added.reject(error));
    await informer.start();
    assert.equal(informer.list(namespace).filter((object) => object.metadata.labels?.app).length, 4);
    await core.createNamespacedConfigMap({ namespace, body: map('informed', { a: '1' }) });
    await added.promise;
    const body = map('informed', { a: '2' });
    await core.replaceNamespacedConfigMap({ namespace, name: 'informed', body });
    await changed.promise;
    assert.equal(informer.get('informed', namespace).data.a, '2');
    await core.deleteNamespacedConfigMap({ namespace, name: 'informed' });
    await gone.promise;
    await informer.stop();
}

async function objectsOfAnyKind() {
    const objects = k8s.KubernetesObjectApi.makeApiClient(config);
    const secret = { apiVersion: 'v1', kind: 'Secret', metadata: { name: 's', namespace }, stringData: { a: 'b' } };
    await objects.create(secret);
    const found = await objects.read(secret);
    assert.equal(Buffer.from(found.data.a, 'base64').toString(), 'b');
    const patch = { ...secret, stringData: { a: 'c' } };
    await objects.patch(patch, undefined, undefined, 'javascript', undefined, k8s.PatchStrategy.MergePatch);
    await objects.delete(secret);
    await assert.rejects(objects.read(secret), (error) => error.code === 404);
}

async function logs() {
    const said = later('the log');
    const out = new PassThrough();
    out.on('data', (bytes) => said.resolve(bytes.toString()));
    const request = await new k8s.Log(config).log('default', 'web', 'web', out, { follow: true });
    assert.equal(await said.promise, 'hello\n');
    request.abort();
    assert.equal(await core.readNamespacedPodLog({ namespace: 'default', name: 'web' }), 'hello\n');
}

async function exec() {
    const run = async (command, input) => {
        const ended = later(command.join(' '));
        const [out, err] = [new PassThrough(), new PassThrough()];
        const texts = { out: '', err: '' };
        out.on('data', (bytes) => (texts.out += bytes));
        err.on('data', (bytes) => (texts.err += bytes));
        const stdin = input === undefined ? null : Readable.from([input]);
        await new k8s.Exec(config).exec('default', 'web', 'web', command, out, err, stdin, false, ended.resolve);
        const status = await ended.promise;
        return { status, ...texts };
    };
    const both = await run(['sh', '-c', 'echo out; echo err >&2']);
    assert.deepEqual([both.status.status, both.out, both.err], ['Success', 'out\n', 'err\n']);
    const failed = await run(['sh', '-c', 'exit 3']);
    assert.equal(failed.status.reason, 'NonZeroExitCode');
    assert.equal(failed.status.details.causes[0].message, '3');
    const echoed = await run(['sh', '-c', 'read line; echo "got $line"'], 'a line\n');
    assert.equal(echoed.out, 'got a line\n');
}

for (const step of [createsAndLists, watches, patches, informerFollows, objectsOfAnyKind, logs, exec]) {
    await step();
}
await core.deleteNamespace({ name: namespace });
process.exit(0);
