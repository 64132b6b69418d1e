"""`python -m tests.golden.update`: accept what the program registers and declares now."""

from tests.clients import page as clients
from tests.contract import page as engines
from tests.golden import (
    cost_table,
    grants_table,
    growth_table,
    machines_table,
    mistakes_table,
    models_table,
    settings_table,
)
from tests.golden import rendered as golden
from tests.golden.effects import effects

if __name__ == "__main__":
    for name in golden.STACKS:
        (golden.HERE / f"{name}.yaml").write_text(golden.inventory(golden.rendered(name)))
    for path, text in golden.chart_scenarios().items():
        path.write_text(text)
    golden.PULUMI_YAML.write_text(golden.pulumi_yaml())
    machines_table.PAGE.write_text(machines_table.page())
    models_table.PAGE.write_text(models_table.page())
    cost_table.PAGE.write_text(cost_table.page())
    cost_table.README.write_text(cost_table.readme())
    growth_table.PAGE.write_text(growth_table.page())
    grants_table.PAGE.write_text(mistakes_table.page(grants_table.page(grants_table.whole())))
    engines.PAGE.write_text(engines.page())
    clients.PAGE.write_text(clients.page())
    settings_table.PAGE.write_text(settings_table.page(effects()))
