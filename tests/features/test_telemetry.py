import subprocess
import sys


def test_importing_the_product_keeps_onnx_runtime_from_writing_telemetry(tmp_path):
    code = "import service, onnxruntime; onnxruntime.get_available_providers()"
    subprocess.run([sys.executable, "-c", code], check=True, env={"TMPDIR": str(tmp_path), "HOME": str(tmp_path)})
    assert list(tmp_path.iterdir()) == []
